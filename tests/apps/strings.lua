-- SPDX-License-Identifier: MIT
-- Strings, tables, closures and coroutines under the compiler: luajit strings.lua ROUNDS. A line for each round.
local seed, total = 12345, 0

local function random(limit)
    seed = (seed * 16807) % 2147483647
    return seed % limit
end

local function words(count)
    return coroutine.wrap(function()
        for _ = 1, count do
            coroutine.yield(string.char(97 + random(26), 97 + random(26)) .. random(100))
        end
    end)
end

for round = 1, tonumber(arg[1]) do
    local seen, order = {}, {}
    for word in words(20000) do
        if not seen[word] then
            order[#order + 1] = word
        end
        seen[word] = (seen[word] or 0) + 1
    end
    table.sort(order, function(a, b) return seen[a] > seen[b] or (seen[a] == seen[b] and a < b) end)
    for i = 1, 200000 do
        total = (total * 31 + i * seen[order[1]]) % 1000003
    end
    print(string.format("%d: %s %d %d", round, order[1], #order, total))
    io.flush()
end
