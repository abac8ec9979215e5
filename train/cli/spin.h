/* SPDX-License-Identifier: BSD-2-Clause
 * Threads that wait for each other spin for a while before they sleep. GNU OpenMP's default is long: on a machine that is
 * busy with other work, most of the time goes into spinning. Three trainings side by side on two cores: 300 images/s each
 * with the default, 780 with 20000 rounds; alone the same 2900, and single-image inference stays at 0.05 ms.
 */
#ifndef OCT_CLI_SPIN_H
#define OCT_CLI_SPIN_H

/* First call of main. The run time reads its settings before main, so the program starts itself once more with
 * GOMP_SPINCOUNT set, unless the user has set it or OMP_WAIT_POLICY. */
void cli_limit_spinning(char **argv);

#endif
