#!/usr/bin/env bash
# The tracking server: runs, registry and accounts in PostgreSQL, artifacts through the server, a password for
# everything but /health. PostgreSQL is found by libpq's own variables (PGHOST, PGUSER, PGPASSWORD, …), so that no
# address holds a password.
set -euo pipefail

refuse() {
    echo "tracking: $1" >&2
    exit 2
}

for name in PGHOST PGUSER PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
    [ -n "${!name:-}" ] || refuse "$name must be set; got nothing. docs/service.md says how."
done
[ "${#MLFLOW_AUTH_ADMIN_PASSWORD}" -ge 12 ] ||
    refuse "MLFLOW_AUTH_ADMIN_PASSWORD must have 12 characters; got ${#MLFLOW_AUTH_ADMIN_PASSWORD}. Make it longer."

MLFLOW_AUTH_CONFIG_PATH="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/accounts.ini"
export MLFLOW_AUTH_CONFIG_PATH
export MLFLOW_DISABLE_TELEMETRY=true
# neither is used here, and each would be one more thing that listens or keeps secrets
export MLFLOW_ENABLE_AI_GATEWAY=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

# names the server answers to, and the origin whose pages may write: others are refused, whoever the user is
hosts="localhost:*,127.0.0.1:*${HOST_NAMES:+,$HOST_NAMES}"
origins=()
case "${PUBLIC_URL:-}" in
"") ;;
http://* | https://*)
    hosts+=",${PUBLIC_URL#*://}"
    origins=(--cors-allowed-origins "$PUBLIC_URL")
    ;;
*) refuse "PUBLIC_URL must begin with http:// or https://; got $PUBLIC_URL. Write it as in the browser." ;;
esac

exec mlflow server \
    --backend-store-uri postgresql:///tracking \
    --serve-artifacts --artifacts-destination "${ARTIFACTS:-/srv/artifacts}" \
    --app-name basic-auth \
    --host "${LISTEN:-127.0.0.1}" --port "${PORT:-5000}" --workers "${SERVER_PROCESSES:-2}" \
    --allowed-hosts "$hosts" "${origins[@]}"
