// A strict reader of small JSON files, without a tree: every scalar by its path.
#pragma once

#include <map>
#include <string>

class FlatJson {
 public:
  // Throws std::runtime_error if the text is not JSON or a name stands twice.
  explicit FlatJson(const std::string &text);

  // "crop.scale", "artifacts.3.file": names and list places, joined by dots.
  bool Has(const std::string &path) const { return scalars_.count(path) != 0; }

  // Throw std::runtime_error if the path is not there or is of another type.
  double Number(const std::string &path) const;
  int Integer(const std::string &path) const;
  std::string Text(const std::string &path) const;

 private:
  const std::string &At(const std::string &path) const;

  std::map<std::string, std::string> scalars_;  // as written: strings keep their quotes
};
