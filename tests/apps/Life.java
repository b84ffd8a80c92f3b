// SPDX-License-Identifier: MIT
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Four threads allocate and sort, garbage is collected: java Life.java ROUNDS. A line for each round. */
public class Life {
    static long work(long seed) {
        Map<String, Long> map = new HashMap<>();
        for (int i = 0; i < 20_000; i++) {
            seed = seed * 6364136223846793005L + 1442695040888963407L;
            map.merge("key" + (seed >>> 52), seed, Long::sum);
        }
        long hash = 7;
        for (Map.Entry<String, Long> entry : new TreeMap<>(map).entrySet())
            hash = hash * 31 + entry.getKey().hashCode() * 17 + entry.getValue();
        return hash;
    }

    public static void main(String[] arguments) throws InterruptedException, ExecutionException {
        int rounds = Integer.parseInt(arguments[0]);
        ExecutorService pool = Executors.newFixedThreadPool(4);
        long total = 0;
        for (int round = 1; round <= rounds; round++) {
            List<Future<Long>> results = new ArrayList<>();
            for (int part = 0; part < 4; part++) {
                long seed = round * 4L + part;
                results.add(pool.submit(() -> work(seed)));
            }
            for (Future<Long> result : results)
                total = total * 31 + result.get();
            System.out.println(round + ": " + Long.toHexString(total));
        }
        pool.shutdown();
    }
}
