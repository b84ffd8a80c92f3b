% SPDX-License-Identifier: MIT
% Power iteration and a linear system in turns: octave-cli matrix.m ROUNDS. A line for each round.
1;
rounds = str2double(argv(){1});
n = 220;
a = mod((1:n)' * (1:n) * 7919, 101) / 101 + eye(n) * n;
v = ones(n, 1);
total = 0;
for round = 1:rounds
  for step = 1:20
    v = a * v;
    v = v / norm(v);
  end
  a = a + diag(mod((1:n) * round, 7)) / 1000;
  x = a \ v;
  s = sprintf("%d", mod(round * (1:300), 89));
  total = mod(total * 31 + sum(s) + length(unique(s)), 1000003);
  printf("%d: %.8f %.8f %d\n", round, v' * a * v, sum(x) * 1e3, total);
  fflush(stdout);
end
