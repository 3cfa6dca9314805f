#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockets.h"

/* ETHTOOL_GSET, which the kernel translates, as every driver answers it and it takes no second
 * question. */
long ovx_link_speed(const char *device) {
  struct ethtool_cmd command;
  struct ifreq request;
  memset(&command, 0, sizeof command);
  memset(&request, 0, sizeof request);
  if (strlen(device) >= IFNAMSIZ) return -ENAMETOOLONG;
  strcpy(request.ifr_name, device);
  command.cmd = ETHTOOL_GSET;
  request.ifr_data = (void *)&command;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  long result = ioctl(fd, SIOCETHTOOL, &request) < 0 ? -errno : 0;
  close(fd);
  if (result < 0) return result;
  __u32 speed = ethtool_cmd_speed(&command);
  return speed == (__u32)SPEED_UNKNOWN || speed == 0xFFFF ? -ENODATA : (long)speed;
}
