package interop;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * A command-line tool N times at once, without N JVMs: Crowd N CLASS ARGUMENT... calls the tool's main() in N
 * threads that begin together. The exit status is the number of those that threw.
 */
final class Crowd {
    private Crowd() {}

    public static void main(String[] args) throws Exception {
        int n = Integer.parseInt(args[0]);
        Method tool = Class.forName(args[1]).getMethod("main", String[].class);
        String[] rest = Arrays.copyOfRange(args, 2, args.length);
        CountDownLatch together = new CountDownLatch(n);
        AtomicInteger failed = new AtomicInteger();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            Thread t = new Thread(() -> {
                try {
                    together.countDown();
                    together.await();
                    tool.invoke(null, (Object) rest.clone());
                } catch (Exception e) {
                    failed.incrementAndGet();
                    e.printStackTrace();
                }
            });
            t.start();
            threads.add(t);
        }
        for (Thread t : threads) {
            t.join();
        }
        System.exit(Math.min(failed.get(), 100));
    }
}
