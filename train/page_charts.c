/* SPDX-License-Identifier: BSD-2-Clause
 * The charts of train/page.h. */
#include <math.h>
#include <stdio.h>

#include "train/page.h"

enum { WIDTH = 480, HEIGHT = 150, LEFT = 8, TOP = 8, BOTTOM = 22, BARS = 120, ENDS = 80 /* room of the numbers at the ends of an axis */ };

static void open_svg(oct_page *p, int width, int height, const char *label)
{
    oct_page_add(p, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width, height);
    oct_page_text(p, label);
    oct_page_add(p, "\">");
}

/* --- histogram --- */

typedef struct axis {
    double lo, hi, from, to; /* values, pixels */
} axis;

static double place(const axis *a, double v)
{
    return a->from + (v - a->lo) / (a->hi - a->lo) * (a->to - a->from);
}

static void add_columns(oct_page *p, const oct_histogram *h, const axis *x)
{
    double sums[BARS] = {0}, width = oct_histogram_bin_width(h), most = 0;
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) {
        double middle = h->seen.lo + (i + 0.5) * width;
        int bar = (int)((middle - x->lo) / (x->hi - x->lo) * BARS);
        sums[bar < 0 ? 0 : bar >= BARS ? BARS - 1 : bar] += h->counts[i];
    }
    for (int i = 0; i < BARS; i++) most = fmax(most, sums[i]);
    double floor_y = HEIGHT - BOTTOM, step = (x->to - x->from) / BARS;
    oct_page_add(p, "<path class=\"f1\" d=\"");
    for (int i = 0; i < BARS; i++) {
        if (!(sums[i] > 0)) continue;
        double tall = fmax(log10(1 + sums[i]) / log10(1 + most) * (floor_y - TOP), 1);
        oct_page_add(p, "M%.1f %.1fh%.2fv-%.1fh-%.2fz", x->from + i * step, floor_y, step, tall, step);
    }
    oct_page_add(p, "\"/>");
}

static void add_clip(oct_page *p, const axis *x, double lo, double hi)
{
    double top = TOP, tall = HEIGHT - BOTTOM - TOP, left = place(x, lo), right = place(x, hi);
    if (left > x->from)
        oct_page_add(p, "<rect class=\"out\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x->from, top,
                     left - x->from, tall);
    if (right < x->to)
        oct_page_add(p, "<rect class=\"out\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", right, top,
                     x->to - right, tall);
    oct_page_add(p, "<path class=\"mark\" d=\"M%.1f %.1fv%.1fM%.1f %.1fv%.1f\"/>", left, top, tall, right, top, tall);
}

void oct_page_histogram(oct_page *p, const oct_histogram *h, double lo, double hi, const char *label)
{
    if (!oct_bounds_valid(h->seen)) {
        oct_page_add(p, "<p class=\"note\">no values</p>");
        return;
    }
    bool clipped = lo < hi;
    axis x = {h->seen.lo, h->seen.hi, LEFT, WIDTH - LEFT};
    if (clipped) x.lo = fmin(x.lo, lo), x.hi = fmax(x.hi, hi);
    double margin = x.hi > x.lo ? 0.02 * (x.hi - x.lo) : 0.5;
    x.lo -= margin;
    x.hi += margin;
    open_svg(p, WIDTH, HEIGHT, label);
    if (clipped) add_clip(p, &x, lo, hi);
    add_columns(p, h, &x);
    oct_page_add(p, "<path class=\"axis\" d=\"M%d %dH%d\"/>", LEFT, HEIGHT - BOTTOM, WIDTH - LEFT);
    oct_page_add(p, "<text x=\"%d\" y=\"%d\">%.4g</text>", LEFT, HEIGHT - 6, x.lo);
    oct_page_add(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>", WIDTH - LEFT, HEIGHT - 6, x.hi);
    double zero = x.lo < 0 && x.hi > 0 ? place(&x, 0) : 0;
    if (zero > ENDS && zero < WIDTH - ENDS)
        oct_page_add(p, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">0</text>", zero, HEIGHT - 6);
    oct_page_add(p, "</svg>\n");
}

/* --- bars --- */

void oct_page_bars_add(oct_page *p, const oct_page_bars *b)
{
    enum { ROW = 20, NAMES = 220, WIDE = 760, VALUES = 70 };
    double most = isnan(b->mark) ? 0 : b->mark;
    for (int i = 0; i < b->count; i++) {
        if (isfinite(b->first[i])) most = fmax(most, b->first[i]);
        if (b->second && isfinite(b->second[i])) most = fmax(most, b->second[i]);
    }
    axis x = {0, most > 0 ? most : 1, NAMES, WIDE - VALUES};
    open_svg(p, WIDE, b->count * ROW + 8, b->label);
    for (int i = 0; i < b->count; i++) {
        int y = i * ROW + 4;
        double v = b->first[i];
        oct_page_add(p, "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", NAMES - 8, y + 12);
        oct_page_text(p, b->names[i]);
        oct_page_add(p, "</text>");
        if (isfinite(v))
            oct_page_add(p, "<rect class=\"f1\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"9\"/>", NAMES, y + 1,
                         fmax(place(&x, v) - NAMES, 0));
        if (b->second && isfinite(b->second[i]))
            oct_page_add(p, "<rect class=\"f2\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"4\"/>", NAMES, y + 11,
                         fmax(place(&x, b->second[i]) - NAMES, 0));
        double end = b->second && isfinite(b->second[i]) ? fmax(v, b->second[i]) : v;
        if (isfinite(v))
            oct_page_add(p, "<text x=\"%.1f\" y=\"%d\">%.1f %s</text>", fmax(place(&x, end), NAMES) + 6, y + 12, v, b->unit);
    }
    if (!isnan(b->mark))
        oct_page_add(p, "<path class=\"mark\" d=\"M%.1f 0v%d\"/>", place(&x, b->mark), b->count * ROW + 8);
    oct_page_add(p, "</svg>\n");
}

/* --- curves --- */

static axis range_of(const oct_page_line *lines, int line_count, int count)
{
    axis y = {INFINITY, -INFINITY, HEIGHT - BOTTOM, TOP + 14};
    for (int l = 0; l < line_count; l++)
        for (int i = 0; i < count; i++)
            if (isfinite(lines[l].y[i])) y.lo = fmin(y.lo, lines[l].y[i]), y.hi = fmax(y.hi, lines[l].y[i]);
    if (!(y.lo <= y.hi)) y.lo = 0, y.hi = 1;
    if (y.lo == y.hi) y.hi += fabs(y.hi) > 0 ? fabs(y.hi) : 1;
    return y;
}

static void add_line(oct_page *p, const double *x, int count, const double *v, const axis *ax, const axis *ay, int colour)
{
    bool drawing = false;
    oct_page_add(p, "<path class=\"s%d\" d=\"", colour % 3);
    for (int i = 0; i < count; i++) {
        if (isfinite(v[i])) oct_page_add(p, "%c%.1f %.1f", drawing ? 'L' : 'M', place(ax, x[i]), place(ay, v[i]));
        if (isfinite(v[i]) && !drawing) oct_page_add(p, "h.1"); /* a single point is seen */
        drawing = isfinite(v[i]);
    }
    oct_page_add(p, "\"/>");
}

void oct_page_curves(oct_page *p, const double *x, int count, const oct_page_line *lines, int line_count,
                     const char *x_name, const char *label)
{
    enum { SCALE = 52 };
    if (count < 1) return;
    axis ax = {x[0], x[count - 1] > x[0] ? x[count - 1] : x[0] + 1, SCALE, WIDTH - LEFT}, ay = range_of(lines, line_count, count);
    open_svg(p, WIDTH, HEIGHT, label);
    oct_page_add(p, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>", SCALE, TOP + 14, HEIGHT - BOTTOM, WIDTH - LEFT);
    oct_page_add(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>", SCALE - 5, TOP + 20, ay.hi);
    oct_page_add(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>", SCALE - 5, HEIGHT - BOTTOM, ay.lo);
    oct_page_add(p, "<text x=\"%d\" y=\"%d\">%s %.4g</text>", SCALE, HEIGHT - 6, x_name, x[0]);
    oct_page_add(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>", WIDTH - LEFT, HEIGHT - 6, x[count - 1]);
    for (int l = 0; l < line_count; l++) {
        add_line(p, x, count, lines[l].y, &ax, &ay, l);
        int at = SCALE + 8 + l * 130;
        oct_page_add(p, "<path class=\"s%d\" d=\"M%d %dh16\"/><text x=\"%d\" y=\"%d\">", l % 3, at, TOP, at + 21, TOP + 4);
        oct_page_text(p, lines[l].name);
        oct_page_add(p, "</text>");
    }
    oct_page_add(p, "</svg>\n");
}
