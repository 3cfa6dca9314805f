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

/* The features, and the bits that tell of them. */
static const struct {
  const char *name;
  int bit;
} wanted[] = {
    {"tx-tcp-segmentation", ovx_feature_tcp4},       {"tx-tcp6-segmentation", ovx_feature_tcp6},
    {"tx-tcp-ecn-segmentation", ovx_feature_ecn},    {"tx-udp-segmentation", ovx_feature_udp},
    {"tx-udp_tnl-segmentation", ovx_feature_tunnel},
};

/* The bits of those features that are switched on, of a device with `count` features in all. */
static int find_active(int fd, const char *device, unsigned count) {
  unsigned blocks = (count + 31) / 32;
  struct ethtool_gstrings *names = calloc(1, sizeof *names + (size_t)count * ETH_GSTRING_LEN);
  struct ethtool_gfeatures *features = calloc(1, sizeof *features + blocks * sizeof features->features[0]);
  int result = -ENOMEM;
  if (names && features) {
    names->cmd = ETHTOOL_GSTRINGS;
    names->string_set = ETH_SS_FEATURES;
    names->len = count;
    result = ask(fd, device, names);
    features->cmd = ETHTOOL_GFEATURES;
    features->size = blocks;
    if (result == 0) result = ask(fd, device, features);
    for (unsigned index = 0; result >= 0 && index < count && index < names->len; index++) {
      const char *name = (const char *)names->data + (size_t)index * ETH_GSTRING_LEN;
      if (!(features->features[index / 32].active >> index % 32 & 1)) continue;
      for (size_t number = 0; number < sizeof wanted / sizeof *wanted; number++)
        if (strncmp(name, wanted[number].name, ETH_GSTRING_LEN) == 0) result |= wanted[number].bit;
    }
  }
  free(names);
  free(features);
  return result;
}

int ovx_device_features(const char *device) {
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
    result = count > 1024 ? -EOVERFLOW : find_active(fd, device, count);
  }
  close(fd);
  return result;
}
