# SPDX-License-Identifier: MIT
# Counts words of made-up text in hashes, sorts and matches them: perl walk.pl ROUNDS. A line for each round.
use strict;
use warnings;
use integer;

my $seed  = 12345;
my $total = 0;
my %count;
$| = 1;
for my $round (1 .. $ARGV[0]) {
    my $text = '';
    for (1 .. 3_000) {
        $seed = ($seed * 16807) % 2147483647;
        $text .= chr(97 + $seed % 5) . chr(97 + ($seed / 7) % 7) . ($seed % 3 ? 'x' : ' ');
    }
    $count{$1}++ while $text =~ /(\w+)/g;
    my ($top) = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    $total = ($total * 31 + $count{$top} + scalar keys %count) % 1000000007;
    delete @count{ grep { $count{$_} < 2 } keys %count } if $round % 50 == 0;
    printf "%d: %d words, most often %s, total %d\n", $round, scalar keys %count, $top, $total;
}
