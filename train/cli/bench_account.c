/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/bench_account.h"

#include <inttypes.h>

bench_account bench_account_of(const oct_ctx *ctx, const oct_plan *plan, const oct_graph *graph,
                               const bench_whole *whole)
{
    bench_account a = {.info = oct_plan_describe(plan), .size = oct_model_measure(graph), .whole = *whole};
    a.whole.f32 = peak_f32(ctx->threads, ctx->cpu_mask);
    a.whole.int8 = peak_int8(ctx->threads, ctx->cpu_mask);
    double int8 = 2e-6 * (double)a.info.code_macs / whole->ms;
    a.gflops = 2e-6 * (double)(a.info.macs + a.info.backward_macs) / whole->ms;
    a.f32_share = a.gflops / a.whole.f32.giga;
    a.peak_share = (a.gflops - int8) / a.whole.f32.giga + int8 / a.whole.int8.giga;
    return a;
}

void bench_print_account(const cli *c, const bench_account *a)
{
    char kept[80] = "";
    if (a->whole.train)
        snprintf(kept, sizeof kept, ", of that activations kept for backward %.1f MB",
                 (double)a->info.activation_bytes / 1e6);
    cli_print(c, "plan %.1f MB%s; %" PRId64 " parameters, %.2f MMAC/image", (double)a->info.arena_bytes / 1e6,
              kept, a->size.parameters, (double)a->size.macs / 1e6);
    cli_print(c, "%.1f GFLOP/s, %.1f %% of the fp32 peak of %.1f GFLOP/s (%s)", a->gflops, 100 * a->f32_share,
              a->whole.f32.giga, a->whole.f32.level);
    if (a->info.code_macs)
        cli_print(c, "the forward MACs run on int8 (peak %.1f GOP/s, %s): %.1f %% of what both peaks allow",
                  a->whole.int8.giga, a->whole.int8.level, 100 * a->peak_share);
}

void bench_add_account(struct cJSON *event, const bench_account *a)
{
    double batch = (double)a->whole.batch;
    cli_add(event, "plan_bytes", (double)a->info.arena_bytes, 0);
    if (a->whole.train) cli_add(event, "activation_bytes", (double)a->info.activation_bytes, 0);
    cli_add(event, "parameters", (double)a->size.parameters, 0);
    cli_add(event, "macs", (double)a->size.macs, 0);
    cli_add(event, "int8_macs", (double)a->info.code_macs / batch, 0);
    if (a->whole.train) cli_add(event, "backward_macs", (double)a->info.backward_macs / batch, 0);
    cli_add(event, "gflops", a->gflops, 3);
    cli_add(event, "fp32_peak_share", a->f32_share, 4);
    cli_add(event, "peak_share", a->peak_share, 4);
    cli_add(event, "fp32_peak_gflops", a->whole.f32.giga, 3);
    cli_add(event, "int8_peak_gops", a->whole.int8.giga, 3);
}
