# What up, down and run share: which files, profiles and settings make the stack. Sourced, from the checkout's root.
# shellcheck shell=bash
#
#   PROFILE   demo, dev and scale, several with commas; without it those that run already
#   GPU       1 with, 0 without; without it, what the engine has
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

. include/compose/env.sh

check_engine() {
    command -v docker >/dev/null || fail "the command docker is missing. Remedy: install Docker Engine with the Compose" \
        "plugin (https://docs.docker.com/engine/install); without Docker, \`make demo\` and \`make start\` run everything."
    docker info >/dev/null 2>&1 || fail "the Docker engine does not answer: $(docker info 2>&1 | tail -1)." \
        "Remedy: start it, and look at who may use its socket (group docker) and at DOCKER_HOST."
    local version
    version=$(docker compose version --short 2>/dev/null) || fail "docker has no plugin \`compose\`." \
        "Remedy: install docker-compose-plugin (Debian: docker-compose)."
    [ "$(printf '%s\n' 2.24.4 "${version#v}" | sort -V | head -1)" = 2.24.4 ] ||
        fail "Compose is $version; 2.24.4 or newer is needed. Remedy: update docker-compose-plugin."
}

running() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$1" | grep -q .
}

# Sets `profiles`, those that are asked for, else those that run.
choose_profiles() {
    local name
    profiles=()
    if [ -n "${PROFILE:-}" ]; then
        for name in ${PROFILE//,/ }; do
            case $name in
                demo | dev | scale) profiles+=("$name") ;;
                *) fail "there is no profile $name. Remedy: PROFILE=demo, dev, scale, or several: demo,scale." ;;
            esac
        done
    else
        ! running samples || profiles+=(demo)
        ! running mail || running samples || profiles+=(dev)
        ! running redis || profiles+=(scale)
    fi
}

has() { [[ " ${profiles[*]:-} " == *" $1 "* ]]; }

has_gpu() {
    case ${GPU:-} in
        1) return 0 ;;
        0) return 1 ;;
        *) docker info --format '{{range $name, $_ := .Runtimes}}{{$name}} {{end}}' | grep -qw nvidia ;;
    esac
}

# Sets `further`, the files besides Revops' own: Compose's override, and those that REVOPS_COMPOSE_FILES names.
find_further_files() {
    local file named
    further=()
    [ -z "$(setting COMPOSE_FILE '')" ] || fail "COMPOSE_FILE=$(setting COMPOSE_FILE '') would be left out here. Remedy:" \
        "name files of your own in REVOPS_COMPOSE_FILES in .env, and remove COMPOSE_FILE from .env and the environment."
    # Of several overrides Compose takes the first of these, too.
    for file in {compose,docker-compose}.override.{yml,yaml}; do
        [ ! -f "$file" ] || { further=(--file "$file"); break; }
    done
    IFS=$': \t' read -r -a named <<<"$(setting REVOPS_COMPOSE_FILES '')"
    for file in "${named[@]}"; do
        [ -z "$file" ] || [ -f "$file" ] || fail "REVOPS_COMPOSE_FILES names the file $file, which is not in $PWD. Remedy:" \
            "put it back, or name another; what it adds to the stack must not be left out unnoticed."
        [ -z "$file" ] || further+=(--file "$file")
    done
    # By which docker-compose.yaml knows that they are not left out.
    export REVOPS_COMPOSE_FILES=
}

# Sets `compose`, the command with its files.
choose_files() {
    find_further_files
    compose=(docker compose --project-name "$project" --file docker-compose.yaml)
    ! has scale || compose+=(--file docker-compose.scale.yaml)
    ! has_gpu || compose+=(--file docker-compose.gpu.yaml)
    compose+=("${further[@]}")
    ! has demo || compose+=(--profile demo)
    ! has dev || compose+=(--profile dev)
}

# The containers run as whoever owns the secrets. In demonstrations something stands in for what .env lacks.
export_settings() {
    [ ! -d secrets ] || export REVOPS_UID="${REVOPS_UID:-$(stat -c %u secrets 2>/dev/null || stat -f %u secrets)}"
    if has demo; then
        export REVOPS_COMPOSE_MODEL REVOPS_ALERT_EMAIL
        REVOPS_COMPOSE_MODEL=$(setting REVOPS_COMPOSE_MODEL demo)
        REVOPS_ALERT_EMAIL=$(setting REVOPS_ALERT_EMAIL revops-alerts@example.com)
    fi
}

check_engine
project=$(setting COMPOSE_PROJECT_NAME revops)
choose_profiles
choose_files
export_settings
