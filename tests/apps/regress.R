# SPDX-License-Identifier: MIT
# Regressions on made-up data, one after the other: Rscript regress.R ROUNDS. A line for each.
rounds <- as.integer(commandArgs(trailingOnly = TRUE)[1])
set.seed(42)
total <- 0
for (round in seq_len(rounds)) {
    x <- matrix(rnorm(6000 * 12), ncol = 12)
    y <- x %*% seq_len(12) + rnorm(6000)
    fit <- lm.fit(x, y)
    total <- total + sum(sort(fit$coefficients)) + median(fit$residuals)
    cat(sprintf("%d: %.12f %.10f\n", round, fit$coefficients[3], total))
    flush(stdout())
}
