# SPDX-License-Identifier: MIT
# docs/kinds.md says of every kind what becomes of it, and which test shows it.

load house

# "file: name" of each kind that stands in the list.
kinds_in_list() {
    local file variable
    for file in core/kinds/*.c; do
        while read -r variable; do
            grep -q "&$variable\b" core/kinds/list.c || continue
            sed -nE "/^(static )?const struct kind $variable\b/,/^};/s/^ *\.name = \"(.*)\",.*/${file//\//\\/}: \1/p" "$file"
        done < <(grep -oE '^(static )?const struct kind [a-z_0-9]+' "$file" | grep -oE '[a-z_0-9]+$')
    done
}

# The rows of the table, without heads: kind|what|state|test
rows() {
    grep -E '^\|' docs/kinds.md | tail -n +3 | sed -E 's/^\| *//; s/ *\|$//; s/ *\| */|/g'
}

@test "every kind has a row in docs/kinds.md" {
    local file name wrong=''
    [ "$(kinds_in_list | wc -l)" = "$(grep -cE '^ +&kind_' core/kinds/list.c)" ] || nothing "kinds that were found" "$(kinds_in_list)"
    while IFS=: read -r file name; do
        rows | cut -d '|' -f 1 | grep -qxF "${name# }" || wrong+="${name# } ($file)"$'\n'
    done < <(kinds_in_list)
    nothing "no row in docs/kinds.md for these kinds" "$wrong"
}

@test "every row is of a kind in the list, or of none" {
    nothing "no such kind in core/kinds/list.c" \
        "$(comm -13 <(kinds_in_list | sed 's/.*: //' | sort -u) <(rows | cut -d '|' -f 1 | grep -vx -e - | sort -u))"
}

@test "every row has one of the three states, and each refusal its page" {
    local name what state wrong=''
    while IFS='|' read -r name what state _; do
        case $state in
        'comes back' | 'comes back changed: '?*) ;;
        'refused: R-'*) [ -f "docs/refusals/${state#refused: }.md" ] || wrong+="$name, $what: no page docs/refusals/${state#refused: }.md"$'\n' ;;
        *) wrong+="$name, $what: '$state'"$'\n' ;;
        esac
    done < <(rows)
    nothing "rows of docs/kinds.md with a wrong state" "$wrong"
}

@test "every row names a test that is there" {
    local name what test file begin wrong=''
    while IFS='|' read -r name what _ test; do
        file=docs/$(sed -nE 's/^\[[^]]+\]\(([^)]+)\): .*/\1/p' <<<"$test")
        begin=${test#*): }
        grep -qsF "@test \"$begin" "$file" || wrong+="$name, $what: $test"$'\n'
    done < <(rows)
    nothing "rows of docs/kinds.md without a test" "$wrong"
}
