// SPDX-License-Identifier: MIT
// A server with a selector (NIO) in one thread, and clients with sockets in others: java Echo ROUNDS.
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.CRC32;

public class Echo {
    static final int CLIENTS = 4;

    // Sends back what it gets, each byte one higher. What is not taken at once waits in the buffer.
    static void serve(Selector selector) throws Exception {
        while (selector.select() >= 0) {
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    SocketChannel channel = ((ServerSocketChannel) key.channel()).accept();
                    channel.configureBlocking(false);
                    channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(30000));
                } else {
                    pass((SocketChannel) key.channel(), key);
                }
            }
            selector.selectedKeys().clear();
        }
    }

    static void pass(SocketChannel channel, SelectionKey key) throws Exception {
        ByteBuffer buffer = (ByteBuffer) key.attachment();
        if (key.isReadable()) {
            int from = buffer.position();
            if (channel.read(buffer) < 0) {
                channel.close();
                return;
            }
            for (int i = from; i < buffer.position(); i++) buffer.put(i, (byte) (buffer.get(i) + 1));
        }
        buffer.flip();
        channel.write(buffer);
        buffer.compact();
        key.interestOps((buffer.position() > 0 ? SelectionKey.OP_WRITE : 0) | (buffer.hasRemaining() ? SelectionKey.OP_READ : 0));
    }

    static long exchange(Socket socket, int round, int number) throws Exception {
        byte[] bytes = new byte[1000 * (1 + 20 * number)], back = new byte[bytes.length];
        CRC32 checksum = new CRC32();
        new Random(round * CLIENTS + number).nextBytes(bytes);
        new DataOutputStream(socket.getOutputStream()).write(bytes);
        new DataInputStream(socket.getInputStream()).readFully(back);
        for (int i = 0; i < bytes.length; i++)
            if (back[i] != (byte) (bytes[i] + 1)) throw new IllegalStateException("byte " + i + " of client " + number);
        checksum.update(back);
        return checksum.getValue();
    }

    public static void main(String[] arguments) throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel server = ServerSocketChannel.open();
        server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0)).configureBlocking(false);
        server.register(selector, SelectionKey.OP_ACCEPT);
        int port = server.socket().getLocalPort();
        Thread thread = new Thread(() -> {
            try {
                serve(selector);
            } catch (Exception error) {
                error.printStackTrace();
                System.exit(1);
            }
        });
        thread.setDaemon(true);
        thread.start();

        List<Socket> sockets = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) sockets.add(new Socket(InetAddress.getLoopbackAddress(), port));
        ExecutorService pool = Executors.newFixedThreadPool(CLIENTS);
        long total = 0;
        for (int round = 0; round < Integer.parseInt(arguments[0]); round++) {
            List<Future<Long>> answers = new ArrayList<>();
            for (int i = 0; i < CLIENTS; i++) {
                final int number = i, now = round;
                answers.add(pool.submit(() -> exchange(sockets.get(number), now, number)));
            }
            for (Future<Long> answer : answers) total = total * 31 + answer.get();
            System.out.println(round + " " + Long.toHexString(total));
            Thread.sleep(10);
        }
        pool.shutdown();
    }
}
