# SPDX-License-Identifier: MIT
# Works with shared memory, semaphores and messages of System V: perl system_v.pl ROUNDS. A line a round.
use strict;
use warnings;
use IPC::SysV qw(IPC_PRIVATE IPC_CREAT IPC_RMID IPC_NOWAIT GETVAL SETVAL S_IRUSR S_IWUSR SEM_UNDO);

$| = 1;
my ($rounds, $number) = ($ARGV[0], 1);
my $memory = shmget(IPC_PRIVATE, 80000, IPC_CREAT | S_IRUSR | S_IWUSR) // die "shmget: $!";
my $set = semget($$, 2, IPC_CREAT | S_IRUSR | S_IWUSR) // die "semget: $!";
my $queue = msgget($$, IPC_CREAT | S_IRUSR | S_IWUSR) // die "msgget: $!";
semctl($set, 0, SETVAL, 1);
for my $round (1 .. $rounds) {
    for (1 .. 300) {
        $number = ($number * 16807) % 2147483647;
        my $place = $number % 9999 * 8;
        semop($set, pack('s3', 0, -1, SEM_UNDO)) or die "semop: $!";
        shmread($memory, my $value, $place, 8) or die "shmread: $!";
        shmwrite($memory, pack('q', unpack('q', $value) + $number), $place, 8) or die "shmwrite: $!";
        semop($set, pack('s3', 0, 1, SEM_UNDO)) or die "semop: $!";
        msgsnd($queue, pack('l! a*', 1 + $number % 5, "message $number"), 0) or die "msgsnd: $!";
        next if $_ < 100;
        my $message;
        $number += length $message if msgrcv($queue, $message, 100, -(1 + $number % 5), IPC_NOWAIT);
    }
    shmread($memory, my $all, 0, 80000) or die "shmread: $!";
    my $left = 0;
    my $message;
    $left = ($left * 31 + unpack('l!', $message)) % 1000003 while msgrcv($queue, $message, 100, 0, IPC_NOWAIT);
    print "$round $number ", unpack('%32C*', $all), " $left ", semctl($set, 0, GETVAL, 0), "\n";
}
shmctl($memory, IPC_RMID, 0);
semctl($set, 0, IPC_RMID, 0);
msgctl($queue, IPC_RMID, 0);
