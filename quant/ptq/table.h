/* SPDX-License-Identifier: BSD-2-Clause
 * Range tables: the ranges of all points as text that people edit and programs read back.
 *
 *   [{"point": "stem/relu", "lo": 0, "hi": 5.31, "fixed": false}, ...]
 *
 * `point` is the node whose value is rounded (its fake_quant node's name works, too). A fixed range is left alone by every
 * recipe; the others are where calibration starts.
 */
#ifndef OCT_PTQ_TABLE_H
#define OCT_PTQ_TABLE_H

#include "quant/ptq/network.h"

/* One line per point. Caller frees with oct_free. */
OCT_MUST_USE oct_status oct_ptq_table_text(char **text, const oct_ptq_net *net);
OCT_MUST_USE oct_status oct_ptq_table_write(const char *path, const oct_ptq_net *net);
/* Sets ranges and `fixed` of the points named. OCT_ERR_FORMAT names the entry: no such point, named twice, numbers that are
 * missing, not finite or lo > hi, unknown keys. `path` is for messages. */
OCT_MUST_USE oct_status oct_ptq_table_apply(oct_ptq_net *net, const char *text, const char *path);
OCT_MUST_USE oct_status oct_ptq_table_read(oct_ptq_net *net, const char *path);

#endif
