# SPDX-License-Identifier: MIT
# The plugin is built with the headers of the Slurm that loads it, and runs there: also with Slurm 24.11, on a Debian 13 that is unpacked here.
# This machine's own packages and lists stay as they are.

load helpers

PACKAGES=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libslurm-dev libjson-c5 bats base-files bash coreutils dash diffutils findutils
    grep hostname libc-bin mawk procps python3 sed util-linux)

# get RELEASE: Debian RELEASE's packages, with all that they need.
get() {
    local options=(-o "Dir::Etc::sourcelist=$BATS_FILE_TMPDIR/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$BATS_FILE_TMPDIR/lists"
        -o "Dir::Cache=$BATS_FILE_TMPDIR/cache" -o "Dir::State::status=$BATS_FILE_TMPDIR/status" -o APT::Sandbox::User=root -o APT::Install-Recommends=0)
    mkdir -p "$BATS_FILE_TMPDIR"/{lists/partial,cache/archives/partial}
    : >"$BATS_FILE_TMPDIR/status"
    echo "deb http://deb.debian.org/debian $1 main" >"$BATS_FILE_TMPDIR/sources.list"
    timeout 120 apt-get "${options[@]}" -q update && timeout 120 apt-get "${options[@]}" -q -y --download-only install "${PACKAGES[@]}"
}

# Without what dpkg runs in a new system; what of it Slurm needs is little.
unpack() {
    local file
    mkdir "$SYSTEM"
    for file in "$BATS_FILE_TMPDIR"/cache/archives/{base-files_,}*.deb; do dpkg -x "$file" "$SYSTEM" || return 1; done
    rm -r "$BATS_FILE_TMPDIR/cache"
    ln -s mawk "$SYSTEM/usr/bin/awk"
    for file in slurmctld slurmd slurmstepd; do ln -s "$file-wlm" "$SYSTEM/usr/sbin/$file"; done
    mkdir "$SYSTEM/old"
    cp /etc/{passwd,group,nsswitch.conf,hosts} "$SYSTEM/etc/"
}

setup_file() {
    export SYSTEM=$BATS_FILE_TMPDIR/system
    export BATS_NO_PARALLELIZE_WITHIN_FILE=true
    [ -e "$BUILD/slurm/spank_stasis.so" ] || skip "needs: libslurm-dev"
    command -v apt-get >/dev/null || skip "needs: apt-get"
    get trixie >"$BATS_FILE_TMPDIR/said" 2>&1 || skip "needs: Debian's packages: $(tail -n 1 "$BATS_FILE_TMPDIR/said")"
    unpack
}

# build_plugin: as meson does it, but with the headers of that system before the others.
build_plugin() {
    mkdir "$T/slurm" "$T/include"
    ln -s "$SYSTEM/usr/include/slurm" "$T/include/"
    python3 - "$BUILD/compile_commands.json" "$T" <<'END'
import json, shlex, subprocess, sys

commands, scratch = sys.argv[1:]
objects = []
for one in json.load(open(commands)):
    if "spank_stasis" not in one["output"]:
        continue
    words = [word for word in shlex.split(one["command"]) if word != "ccache"]
    objects.append("%s/%d.o" % (scratch, len(objects)))
    for flag, value in ("-o", objects[-1]), ("-MF", scratch + "/depends"), ("-MQ", "object"):
        words[words.index(flag) + 1] = value
    if subprocess.run(words + ["-I" + scratch + "/include"], cwd=one["directory"]).returncode:
        sys.exit(one["file"] + " is not compiled")
sys.exit(subprocess.run(["cc", "-shared", "-o", scratch + "/slurm/spank_stasis.so"] + objects).returncode)
END
}

# inside COMMAND...: in that system, with mounts and PIDs of its own.
inside() {
    env -i PATH=/usr/sbin:/usr/bin HOME=/root SYSTEM="$SYSTEM" unshare --mount --propagation private --pid --fork --kill-child sh -c '
        mount --bind "$SYSTEM" "$SYSTEM" && mount -t proc proc "$SYSTEM/proc" && mount --rbind /dev "$SYSTEM/dev" &&
        mount -t tmpfs -o mode=1777 tmpfs "$SYSTEM/dev/shm" && mount -t tmpfs -o mode=1777 tmpfs "$SYSTEM/tmp" &&
        cd "$SYSTEM" && pivot_root . old && umount -l /old && exec "$@"' sh "$@" 3>&- 4>&-
}

@test "slurm: the plugin is built with the headers of Slurm 24.11, and steps and jobs go on there" {
    grep -q 'SLURM_VERSION_NUMBER 0x180b' "$SYSTEM/usr/include/slurm/slurm_version.h" || fail "$(ls "$SYSTEM")"
    run build_plugin
    [ "$status" = 0 ] || fail "$output"
    [ "$(id -u)" = 0 ] || skip "needs: root, for slurmd"
    cp -r "$BATS_RUN_TMPDIR/product" "$SYSTEM/build"
    cp -r "$T/slurm" "$SYSTEM/build/"
    cp -r "$TESTS" "$SYSTEM/"
    run inside env STASIS_BUILD=/build bats -f "cannot have the shim|in #SBATCH lines, and|create, vacate" /tests/slurm.bats
    [ "$status" = 0 ] || fail "$output"
    [ "$(grep -c '^ok' <<<"$output")" = 3 ] || fail "$output"
}
