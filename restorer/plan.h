/* SPDX-License-Identifier: MIT */
/* The arena: the last stage, its plan, its stacks; and the jump into it. */
#ifndef STASIS_PLAN_H
#define STASIS_PLAN_H

#include "../core/kinds/kind.h"

/* Makes the arena with an empty plan in it, at restoring->plan; `together` is seen in it. -errno. */
int plan_make(struct restoring *restoring, struct last_together *together);
/* Closes what is ours and goes. Returns only on failure: an exit status. */
int plan_jump(struct restoring *restoring);

#endif
