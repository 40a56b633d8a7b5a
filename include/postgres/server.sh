# Which server this container is, by REVOPS_SERVER; sourced by the programs in bin.
# shellcheck shell=bash

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

case "${REVOPS_SERVER:-}" in
    warehouse) database=revops_core logins=(revops) ;;
    metadata) database=airflow logins=(airflow) ;;
    samples) database=odoo logins=(odoo ace odoo_reader ace_reader) ;;
    *) fail "REVOPS_SERVER is '${REVOPS_SERVER:-}'. Remedy: set it to warehouse, metadata or samples." ;;
esac
# shellcheck disable=SC2034  # read by those who source this
configuration=/etc/revops/conf/$REVOPS_SERVER.conf
secrets=/run/secrets/$REVOPS_SERVER

# password LOGIN: what the login's file holds.
password() {
    local file=$secrets/${1}_password
    [ "$1" != postgres ] || file=$secrets/superuser_password
    check_file "$file"
    cat "$file"
}

check_file() {
    [ -e "$1" ] || fail "$1 is missing. Remedy: run \`make secrets\` and mount secrets/$REVOPS_SERVER at $secrets."
    [ -r "$1" ] || fail "$1 belongs to account $(stat -c %u "$1"), and this container runs as $(id -u)." \
        "Remedy: run it as the owner of the folder secrets (REVOPS_UID)."
    [ -s "$1" ] || fail "$1 is empty. Remedy: remove it and run \`make secrets\`."
}

# psql_over_tls LOGIN DATABASE ARGUMENT...: as any client would connect, from inside the container.
psql_over_tls() {
    local login=$1 name=$2 secret
    shift 2
    secret=$(password "$login")
    PGPASSWORD=$secret PGAPPNAME=${0##*/} exec psql "host=localhost port=5432 dbname=$name user=$login connect_timeout=4 sslmode=verify-full \
sslrootcert=$secrets/ca.crt channel_binding=require" "$@"
}
