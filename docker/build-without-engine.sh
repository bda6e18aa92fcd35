#!/usr/bin/env bash
# Builds the image where no container engine runs, and tries it: as root, on Debian, with its packages buildah and
# debootstrap. The base is a Debian made on the spot, so that no registry of images is asked; pip finds packages as it
# does here, by the variables PIP_* and those of proxies. DEVICE and CPU_INDEX are those of .env.example.
#   docker/build-without-engine.sh [FOLDER]
# FOLDER (default: where temporary files go) needs about 10 GB; what is written there is removed at the end.
set -euo pipefail

refuse() {
    echo "build-without-engine: $1" >&2
    exit 2
}

[ "$(id -u)" = 0 ] || refuse "it must be run as root, who alone makes a base system; got $(id -un). Use sudo."
folder=${1:-${TMPDIR:-/tmp}}
[ -d "$folder" ] || refuse "FOLDER must be a folder that is there; got $folder. Make it first."
for tool in buildah debootstrap; do
    command -v "$tool" >/dev/null || refuse "$tool must be installed; it was not found. apt-get install $tool"
done

work=$(mktemp --directory "$(realpath "$folder")/skillneurons.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Images, containers and temporary files in the work folder, whatever this machine's own settings say; vfs, since the
# other drivers leave mounts there.
run_buildah() {
    TMPDIR=$work BUILDAH_ISOLATION=chroot \
        buildah --storage-driver vfs --root "$work/storage" --runroot "$work/state" "$@"
}

# Debian 12 has Python 3.11, which conda.yaml names
make_base() {
    local packages=python3,python3-pip,python3-venv,python-is-python3,ca-certificates
    # in mounts of its own: what it mounts in there (/proc) it may fail to unmount, and would stay
    unshare --mount debootstrap --variant=minbase --include="$packages" bookworm "$work/debian"
    mkdir "$work/base"
    # an archive, since ADD of a folder would give every file to root
    tar --create --one-file-system --file "$work/base/debian.tar" --directory "$work/debian" .
    printf 'FROM scratch\nADD debian.tar /\n' >"$work/base/Dockerfile"
    run_buildah build --tag base "$work/base"
    rm -rf --one-file-system "$work/debian" "$work/base"
}

# pip's variables as a file that the build sees and the image does not keep (an address may hold a password), and what
# they name on this machine as volumes. Debian's own pip must be told that it may install beside apt's packages.
declare -A named=()
pip_settings() {
    local name value word
    printf '[global]\nbreak-system-packages = true\n'
    for name in INDEX_URL EXTRA_INDEX_URL FIND_LINKS NO_INDEX TRUSTED_HOST CERT CLIENT_CERT CONSTRAINT \
        DEFAULT_TIMEOUT RETRIES PROXY; do
        value=PIP_$name
        [ -n "${!value:-}" ] || continue
        echo "$name = ${!value//$'\n'/ }"
        for word in ${!value}; do
            word=${word#file://}
            if [[ $word = /* && -e $word ]]; then named[$word]=ro; fi
        done
    done
}

build_image() {
    pip_settings >"$work/pip.conf"
    local volumes=(--volume "$work/pip.conf:/etc/pip.conf:ro") path
    for path in "${!named[@]}"; do volumes+=(--volume "$path:$path:ro"); done
    run_buildah build --file docker/Dockerfile --tag skillneurons --pull-never "${volumes[@]}" \
        --build-arg BASE=localhost/base --build-arg "DEVICE=${DEVICE:-cpu}" --build-arg "CPU_INDEX=${CPU_INDEX:-}" .
}

# what `docker run skillneurons WORDS` would do
start() { run_buildah run "$container" -- "${entrypoint[@]}" "$@"; }

try_image() {
    local container entrypoint script status
    container=$(run_buildah from --pull-never localhost/skillneurons)
    mapfile -t entrypoint < <(run_buildah inspect \
        --format '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}' "$container")
    start --help
    start main --dry_run true
    run_buildah run "$container" -- python -c 'import torch; print("torch", torch.__version__)'
    # compose starts these two; without a secret each says so and ends with 2
    for script in tracking worker; do
        echo "$script.sh, which must refuse:"
        status=0
        run_buildah run "$container" -- "/opt/skillneurons/docker/$script.sh" || status=$?
        [ "$status" = 2 ] || refuse "$script.sh must end with 2 where no secret is set; got $status. See above."
    done
}

make_base
build_image
try_image
echo "build-without-engine: the image was built, and started what it should"
