#pragma once
// Paper tables as LaTeX, Markdown and CSV.

#include <string>

#include "harness/paper/paper_table.h"

namespace attn {

/// A table environment per setting; needs the packages booktabs and siunitx.
std::string to_latex(const PaperTable& table);
/// A pipe table per setting under its caption.
std::string to_markdown(const PaperTable& table);
/// One table with header; an interval takes two columns more, NAME_low and NAME_high; numbers in full.
std::string to_csv(const PaperTable& table);

/// Text with LaTeX's own characters escaped.
std::string latex_escaped(std::string_view text);
/// Four significant digits, never in scientific notation.
std::string four_digits(double value);

}  // namespace attn
