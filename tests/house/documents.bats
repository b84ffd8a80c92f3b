# SPDX-License-Identifier: MIT
# What the documents name exists, and what the sources name is documented.

load house

documents() {
    find README.md docs slurm -name '*.md' 2>/dev/null
    find docs/man -type f 2>/dev/null
    return 0
}

@test "every path named in the documents exists" {
    local document path wrong=''
    for document in $(documents); do
        while read -r path; do
            path=${path%%[.,:;]}
            compgen -G "$path" >/dev/null || wrong+="$document: $path"$'\n'
        done < <(grep -oE '(^|[^A-Za-z0-9_./<>$-])(core|preload|restorer|tools|tests|slurm|docs|\.ci)/[A-Za-z0-9_.*/-]*' "$document" |
            sed -E 's/^[^a-z.]//' | sort -u)
        while read -r path; do # links
            path=${path%%#*}
            [ -z "$path" ] || [ -e "$(dirname "$document")/$path" ] || wrong+="$document links to $path"$'\n'
        done < <(grep -oE '\]\([^)]+\)' "$document" | sed -E 's/^\]\(//; s/\)$//' | grep -vE '^(https?:|mailto:)' | sort -u)
    done
    nothing "no such file" "$wrong"
}

@test "README has its two commands" {
    grep -qE '^ *tests/demo\.sh' README.md
    grep -qE '^ *tests/run\.sh' README.md
    [ -x tests/demo.sh ]
    [ -x tests/run.sh ]
    [ -x .ci/run ]
}

refusals_in_sources() {
    grep -rhoE 'R-[A-Z][A-Z0-9]*(-[A-Z0-9]+)*' --include='*.[chS]' core preload restorer tools slurm |
        sort -u | grep -vx R-NAME # which stands for any of them
}

@test "each refusal in the sources has its page" {
    local name wrong=''
    for name in $(refusals_in_sources); do
        [ -f "docs/refusals/$name.md" ] || wrong+="$name "
    done
    nothing "without a page" "$wrong"
}

@test "each page on a refusal has a source that gives it" {
    local page wrong=''
    [ -d docs/refusals ]
    for page in docs/refusals/R-*.md; do
        refusals_in_sources | grep -qx "$(basename "$page" .md)" || wrong+="$page "
    done
    nothing "nobody refuses so" "$wrong"
}

@test "the manual names every option and command" {
    local name wrong=''
    while read -r name; do
        sed 's/\\-/-/g' docs/man/stasis.1 | grep -q -- "--$name" || wrong+="--$name "
    done < <(grep -hoE '\{ "[a-z][a-z-]+", ("[A-Z]|NULL)' tools/*.c | grep -oE '[a-z][a-z-]+' | sort -u)
    nothing "not in docs/man/stasis.1" "$wrong"
}
