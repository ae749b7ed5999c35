/*
 * double_text: the decimal text of a double as Java writes it, which is what Kafka's JSON has.
 */
#ifndef MILLRACE_DOUBLE_TEXT_H
#define MILLRACE_DOUBLE_TEXT_H

#include "millrace/base/fmt.h"

/*
 * Append the shortest decimal number that reads back as `value`, in the form of Java's
 * Double.toString: 0.001 up to below 10,000,000 plainly, with at least one digit behind the point,
 * everything else as d.dddE-nn; NaN, Infinity and -Infinity by name. Cost: microseconds.
 */
void mr_double_text(struct mr_text *text, double value);

#endif
