#!/usr/bin/env bash
# One worker of a search: takes trials until the study is done. Start as many as you like, wherever both servers
# can be reached. SEARCH holds the parameters of `search`.
set -euo pipefail

for name in PGHOST PGUSER PGPASSWORD MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD SEARCH; do
    [ -n "${!name:-}" ] || {
        echo "worker: $name must be set; got nothing. docs/service.md says how." >&2
        exit 2
    }
done

export SKILLNEURONS_STORAGE=postgresql:///studies
read -r -a parameters <<<"$SEARCH"
exec python -m skillneurons search "${parameters[@]}"
