/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/kinds/kind.h"

static void is_now(const char *then, const char *now, size_t count, const char **rules)
{
    struct restoring restoring = { .policy = { .path_rules = rules, .path_rule_count = count } };
    char *path = path_now(&restoring, strdup(then));

    assert_string_equal(path, now);
    free(path);
}

static void rules(void **state)
{
    (void)state;
    assert_true(path_rule_is_good("/a=/b"));
    assert_true(path_rule_is_good("/=/b"));
    assert_true(path_rule_is_good("/a b=/c=d"));
    assert_false(path_rule_is_good("a=/b"));
    assert_false(path_rule_is_good("/a=b"));
    assert_false(path_rule_is_good("/a"));
    assert_false(path_rule_is_good("/a="));
    assert_false(path_rule_is_good(""));
}

static void whole_components(void **state)
{
    (void)state;
    is_now("/a/x", "/a/x", 0, NULL);
    is_now("/a/x", "/b/x", 1, (const char *[]){ "/a=/b" });
    is_now("/a", "/b", 1, (const char *[]){ "/a=/b" });
    is_now("/ab", "/ab", 1, (const char *[]){ "/a=/b" });
    is_now("/a/x", "/b/x", 1, (const char *[]){ "/a/=/b/" });
    is_now("/x/a/x", "/x/a/x", 1, (const char *[]){ "/a=/b" });
}

static void roots(void **state)
{
    (void)state;
    is_now("/a/x", "/b/a/x", 1, (const char *[]){ "/=/b" });
    is_now("/", "/b", 1, (const char *[]){ "/=/b" });
    is_now("/a/x", "/x", 1, (const char *[]){ "/a=/" });
    is_now("/a", "/", 1, (const char *[]){ "/a=/" });
}

static void longest(void **state)
{
    (void)state;
    is_now("/a/b/x", "/long/x", 2, (const char *[]){ "/a/b=/long", "/a=/short" });
    is_now("/a/b/x", "/long/x", 2, (const char *[]){ "/a=/short", "/a/b=/long" });
    is_now("/a/c/x", "/short/c/x", 2, (const char *[]){ "/a=/short", "/a/b=/long" });
    is_now("/a/x", "/last/x", 2, (const char *[]){ "/a=/first", "/a=/last" });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules), cmocka_unit_test(whole_components), cmocka_unit_test(roots), cmocka_unit_test(longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
