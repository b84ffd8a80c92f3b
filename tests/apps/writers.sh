# SPDX-License-Identifier: MIT
# writers.sh ROUNDS: two programs that write to one database at the same time, each row a transaction of its own. With a file
# $GUEST_READY.hold the last round does not begin.
database=data/both.db

write_rows() {
    for row in $(seq 1 60); do
        echo "INSERT INTO rows VALUES('$1', $2, $row);"
    done | sqlite3 -cmd '.timeout 100000' -cmd 'PRAGMA synchronous=OFF' "$database" >/dev/null
}

sqlite3 "$database" 'CREATE TABLE rows(writer, round, number, PRIMARY KEY(writer, round, number))'
round=0
while [ "$round" -lt "$1" ]; do
    round=$((round + 1))
    while [ "$round" -eq "$1" ] && [ -e "$GUEST_READY.hold" ]; do sleep 0.02; done
    write_rows left "$round" &
    write_rows right "$round" &
    wait
    sqlite3 "$database" "SELECT $round, writer, count(*), sum(number * round) FROM rows GROUP BY writer ORDER BY writer; PRAGMA integrity_check"
done
