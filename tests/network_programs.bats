# SPDX-License-Identifier: MIT
# Unmodified programs of Debian that talk to themselves over TCP, golden against interrupted: see programs.bash. They pause for 10 ms in each
# round, so that none is at its end before it can be looked for.

load helpers
load programs

[ -n "${STASIS_TEST_LONG:-}" ] || ENOUGH=2400

make_asyncio() {
    WORK=("$PYTHON" "$APPS/echo.py" "$1")
}

make_node() {
    WORK=(node "$APPS/echo.js" "$1")
}

make_nio() {
    WORK=(java -Xmx96m -cp "$T" Echo "$1")
}

@test "python3: a server of asyncio and its clients, in threads" {
    work_for asyncio 220 make_asyncio
    interrupted asyncio
}

@test "node: an HTTP server and its clients" {
    needs node
    work_for node 220 make_node
    interrupted node
}

@test "java: a selector of NIO and its clients" {
    needs java ecj
    ecj -proc:none -11 -d "$T" "$APPS/Echo.java"
    work_for nio 220 make_nio
    interrupted nio
}
