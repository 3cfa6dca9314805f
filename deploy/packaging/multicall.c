/* One program that is all of ovx: Swift's libraries are in it once, and not in each.
 *
 * It is installed under several names, hard links in one directory, and is what it was started as.
 * The name counts that the kernel knows: neither another argv[0] nor a symbolic link of any name
 * makes a program another one.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define PROGRAM(name, function) int function(int count, char **arguments);
#include "programs.h"
#undef PROGRAM

typedef int (*program)(int count, char **arguments);

static program program_named(const char *path) {
  const char *slash = strrchr(path, '/');
  const char *name = slash ? slash + 1 : path;
#define PROGRAM(known, function) \
  if (strcmp(name, known) == 0) return function;
#include "programs.h"
#undef PROGRAM
  return NULL;
}

/* The file itself, whose name is one of ours whatever links lead to it. */
static program program_of_file(void) {
  static const char deleted[] = " (deleted)";
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return NULL;
  path[length] = '\0';
  /* One that has been replaced by an upgrade meanwhile, and starts itself. */
  size_t end = (size_t)length - (sizeof deleted - 1);
  if ((size_t)length > sizeof deleted && strcmp(path + end, deleted) == 0) path[end] = '\0';
  return program_named(path);
}

int main(int count, char **arguments) {
  program run = program_of_file();
  /* Without /proc, and where it was copied to another name. */
  const char *started = (const char *)getauxval(AT_EXECFN);
  if (!run && started) run = program_named(started);
  if (!run && count > 0) run = program_named(arguments[0]);
  if (run) return run(count, arguments);
  fputs("ovx: this file is several programs, and is which one it is called; its names are"
#define PROGRAM(name, function) " " name
#include "programs.h"
#undef PROGRAM
        ".\n", stderr);
  return 1;
}
