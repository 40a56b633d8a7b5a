# What .env and the environment say. Sourced, from the checkout's root.
# shellcheck shell=bash

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# in_env_file NAME: the value in .env, as Compose reads it; nothing where there is none.
in_env_file() {
    [ -f .env ] || return 0
    sed -n "s/^[[:space:]]*\(export[[:space:]][[:space:]]*\)\{0,1\}$1=[[:space:]]*//p" .env | tail -1 |
        sed -e "/^[\"']/!s/[[:space:]]#.*//" -e 's/[[:space:]]*$//' -e "s/^\([\"']\)\(.*\)\1.*/\2/"
}

# setting NAME DEFAULT: of the environment, else of .env, as Compose itself looks for it.
setting() {
    local value=${!1:-}
    [ -n "$value" ] || value=$(in_env_file "$1")
    printf '%s' "${value:-$2}"
}
