# SPDX-License-Identifier: MIT
# The plugin is built with the headers of the Slurm that loads it: also with those of another Debian than this one.

load helpers

# unpack RELEASE: Debian RELEASE's headers of Slurm, to $T/root. This machine's own packages and lists stay as they are.
unpack() {
    local options=(-o "Dir::Etc::sourcelist=$T/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$T/lists" -o "Dir::Cache=$T/cache"
        -o APT::Sandbox::User=root)
    mkdir -p "$T/lists/partial" "$T/cache/archives/partial"
    echo "deb http://deb.debian.org/debian $1 main" >"$T/sources.list"
    cd "$T" || return 1
    timeout 120 apt-get "${options[@]}" -q update && timeout 60 apt-get "${options[@]}" -q download libslurm-dev && dpkg -x libslurm-dev_*.deb root
}

# compile FILE...: as meson does it, but with the headers in $T/root before the others.
compile() {
    local file
    for file in "$@"; do
        python3 - "$BUILD/compile_commands.json" "$file" "$T" <<'END' || return 1
import json, shlex, subprocess, sys

commands, name, scratch = sys.argv[1:]
for one in json.load(open(commands)):
    if one["file"].endswith("/" + name) and "spank_stasis" in one["output"]:
        words = shlex.split(one["command"])
        for flag in "-o", "-MF", "-MQ":
            words[words.index(flag) + 1] = scratch + "/object" + flag
        sys.exit(subprocess.run([word for word in words if word != "ccache"] + ["-I" + scratch + "/root/usr/include"], cwd=one["directory"]).returncode)
sys.exit(name + " is not compiled")
END
    done
}

@test "slurm: the plugin is built with the headers of Slurm 24.11, too" {
    [ -e "$BUILD/slurm/spank_stasis.so" ] || skip "needs: libslurm-dev"
    command -v apt-get >/dev/null || skip "needs: apt-get"
    unpack trixie >"$T/said" 2>&1 || skip "needs: Debian's packages: $(tail -n 1 "$T/said")"
    grep -q 'SLURM_VERSION_NUMBER 0x180b' "$T/root/usr/include/slurm/slurm_version.h" || fail "$(ls "$T")"
    run compile slurm/spank_stasis.c slurm/batch.c slurm/output.c slurm/steps.c
    [ "$status" = 0 ] || fail "$output"
}
