#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "CLinux.h"

static int ask(int fd, const char *device, void *question) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  request.ifr_data = question;
  return ioctl(fd, SIOCETHTOOL, &request) < 0 ? -errno : 0;
}

/* The number of a feature among `count` names, or -ENOENT where this kernel has none of that name. */
static int find(int fd, const char *device, unsigned count, const char *feature) {
  struct ethtool_gstrings *names = calloc(1, sizeof *names + (size_t)count * ETH_GSTRING_LEN);
  if (!names) return -ENOMEM;
  names->cmd = ETHTOOL_GSTRINGS;
  names->string_set = ETH_SS_FEATURES;
  names->len = count;
  int result = ask(fd, device, names);
  if (result == 0) {
    result = -ENOENT;
    for (unsigned index = 0; index < count && index < names->len; index++) {
      const char *name = (const char *)names->data + (size_t)index * ETH_GSTRING_LEN;
      if (strncmp(name, feature, ETH_GSTRING_LEN) == 0) result = (int)index;
    }
  }
  free(names);
  return result;
}

int ovx_device_feature(const char *device, const char *feature) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  union {
    struct ethtool_sset_info info;
    unsigned char room[sizeof(struct ethtool_sset_info) + sizeof(unsigned)];
  } sets;
  memset(&sets, 0, sizeof sets);
  sets.info.cmd = ETHTOOL_GSSET_INFO;
  sets.info.sset_mask = 1ull << ETH_SS_FEATURES;
  int result = ask(fd, device, &sets);
  if (result == 0) {
    unsigned count = 0;
    if (sets.info.sset_mask) memcpy(&count, sets.room + sizeof sets.info, sizeof count);
    result = count > 1024 ? -EOVERFLOW : find(fd, device, count, feature);
    if (result >= 0) {
      unsigned number = (unsigned)result, blocks = (count + 31) / 32;
      struct ethtool_gfeatures *features = calloc(1, sizeof *features + blocks * sizeof features->features[0]);
      if (features) {
        features->cmd = ETHTOOL_GFEATURES;
        features->size = blocks;
        result = ask(fd, device, features);
        if (result == 0) result = features->features[number / 32].active >> number % 32 & 1;
      } else {
        result = -ENOMEM;
      }
      free(features);
    }
  }
  close(fd);
  return result;
}
