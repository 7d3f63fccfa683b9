#include "flat_json.h"

#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <stdexcept>

namespace {

constexpr int kMaxDepth = 32;  // a manifest has six levels

class Reader {
 public:
  Reader(const std::string &text, std::map<std::string, std::string> &scalars) : text_(text), scalars_(scalars) {}

  void ReadAll() {
    ReadValue("", 0);
    if (Peek() != '\0' || at_ != text_.size()) Fail();
  }

 private:
  [[noreturn]] void Fail() const { throw std::runtime_error("not JSON at byte " + std::to_string(at_)); }

  // The next byte that is no blank, not taken yet; 0 at the end.
  char Peek() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  void ReadValue(const std::string &path, int depth) {
    if (depth > kMaxDepth) Fail();
    const char next = Peek();
    if (next == '{' || next == '[') return ReadMembers(path, depth);
    const std::string scalar = next == '"' ? TakeString() : TakeWord();
    if (!scalars_.emplace(path, scalar).second) throw std::runtime_error(path + " stands twice");
  }

  void ReadMembers(const std::string &path, int depth) {
    const char close = text_[at_++] == '{' ? '}' : ']';
    if (Peek() == close) return Take(close);
    for (size_t place = 0;; ++place) {
      const std::string name = close == '}' ? TakeName() : std::to_string(place);
      ReadValue(path.empty() ? name : path + "." + name, depth + 1);
      if (Peek() == close) return Take(close);
      Take(',');
    }
  }

  void Take(char wanted) {
    if (Peek() != wanted) Fail();
    ++at_;
  }

  std::string TakeName() {
    if (Peek() != '"') Fail();
    const std::string quoted = TakeString();
    Take(':');
    return quoted.substr(1, quoted.size() - 2);
  }

  std::string TakeString() {
    const size_t start = at_++;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (static_cast<unsigned char>(text_[at_]) < ' ') Fail();  // JSON has none inside strings
      at_ += text_[at_] == '\\' ? 2 : 1;
    }
    if (at_ >= text_.size()) Fail();
    ++at_;
    return text_.substr(start, at_ - start);
  }

  std::string TakeWord() {  // a number, true, false or null
    const size_t end = text_.find_first_not_of("+-.0123456789abcdefghijklmnopqrstuvwxyzE", at_);
    const std::string word = text_.substr(at_, end == std::string::npos ? end : end - at_);
    if (word.empty()) Fail();
    at_ += word.size();
    return word;
  }

  const std::string &text_;
  std::map<std::string, std::string> &scalars_;
  size_t at_ = 0;
};

}  // namespace

FlatJson::FlatJson(const std::string &text) { Reader(text, scalars_).ReadAll(); }

const std::string &FlatJson::At(const std::string &path) const {
  const auto found = scalars_.find(path);
  if (found == scalars_.end()) throw std::runtime_error(path + " is missing");
  return found->second;
}

double FlatJson::Number(const std::string &path) const {
  const std::string &word = At(path);
  char *end = nullptr;
  const double number = std::strtod(word.c_str(), &end);
  if (*end != '\0' || !std::isfinite(number)) throw std::runtime_error(path + " is no number");
  return number;
}

int FlatJson::Integer(const std::string &path) const {
  const double number = Number(path);
  if (number != std::floor(number) || std::abs(number) > std::numeric_limits<int>::max()) {
    throw std::runtime_error(path + " is no integer");
  }
  return static_cast<int>(number);
}

std::string FlatJson::Text(const std::string &path) const {
  const std::string &quoted = At(path);
  if (quoted.front() != '"') throw std::runtime_error(path + " is no text");
  return quoted.substr(1, quoted.size() - 2);
}
