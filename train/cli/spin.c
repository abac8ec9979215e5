/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/spin.h"

#include <stdlib.h>
#include <unistd.h>

void cli_limit_spinning(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "20000", 1)) return;
    execv("/proc/self/exe", argv); /* where that does not work, the default stays */
}
