# SPDX-License-Identifier: MIT
# Statements for sqlite3, the same in every run: awk -v rounds=N -f insert.awk. One transaction and one line a round.
BEGIN {
    print "create table item (id integer primary key, name text, value integer);"
    print "create index item_by_name on item (name);"
    seed = 12345
    for (round = 1; round <= rounds; round++) {
        print "begin;"
        for (row = 1; row <= 20; row++) {
            seed = (seed * 16807) % 2147483647
            printf "insert into item (name, value) values ('n%d', %d);\n", seed % 9973, seed
        }
        printf "update item set value = value + %d where name like 'n%d%%';\n", round, seed % 97
        print "commit;"
        printf "select %d, count(*), sum(value), max(name) from item;\n", round
    }
}
