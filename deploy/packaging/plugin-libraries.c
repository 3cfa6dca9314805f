// What the CNI plugin that is linked with no library at all (see plugin) needs of libraries that
// Debian has no static copy of.
//
// Of libmnl these are the functions that put messages together and take them apart, as libmnl's
// manual has them.
#include <libmnl/libmnl.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC visibility push(hidden)

static const int header_length = MNL_ALIGN(sizeof(struct nlattr));

struct nlmsghdr *mnl_nlmsg_put_header(void *buffer) {
  struct nlmsghdr *message = buffer;
  memset(message, 0, MNL_NLMSG_HDRLEN);
  message->nlmsg_len = MNL_NLMSG_HDRLEN;
  return message;
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *message, size_t size) {
  char *header = (char *)message + message->nlmsg_len;
  size_t length = MNL_ALIGN(size);
  message->nlmsg_len += (uint32_t)length;
  memset(header, 0, length);
  return header;
}

bool mnl_nlmsg_ok(const struct nlmsghdr *message, int length) {
  return length >= (int)sizeof(*message) && message->nlmsg_len >= sizeof(*message) &&
         (int)message->nlmsg_len <= length;
}

bool mnl_attr_put_check(struct nlmsghdr *message, size_t size, uint16_t type, size_t length,
                        const void *data) {
  size_t payload = MNL_ALIGN(length), start = MNL_ALIGN(message->nlmsg_len);
  if (length > UINT16_MAX - (size_t)header_length || start + (size_t)header_length + payload > size) return false;
  struct nlattr *attribute = (struct nlattr *)((char *)message + start);
  attribute->nla_type = type;
  attribute->nla_len = (uint16_t)((size_t)header_length + length);
  char *value = (char *)attribute + header_length;
  if (length > 0) memcpy(value, data, length);
  memset(value + length, 0, payload - length);
  message->nlmsg_len += (uint32_t)((size_t)header_length + payload);
  return true;
}

bool mnl_attr_put_u32_check(struct nlmsghdr *message, size_t size, uint16_t type, uint32_t value) {
  return mnl_attr_put_check(message, size, type, sizeof(value), &value);
}

bool mnl_attr_put_strz_check(struct nlmsghdr *message, size_t size, uint16_t type, const char *text) {
  return mnl_attr_put_check(message, size, type, strlen(text) + 1, text);
}

struct nlattr *mnl_attr_nest_start_check(struct nlmsghdr *message, size_t size, uint16_t type) {
  struct nlattr *start = (struct nlattr *)((char *)message + MNL_ALIGN(message->nlmsg_len));
  return mnl_attr_put_check(message, size, NLA_F_NESTED | type, 0, NULL) ? start : NULL;
}

void mnl_attr_nest_end(struct nlmsghdr *message, struct nlattr *start) {
  start->nla_len = (uint16_t)((char *)message + MNL_ALIGN(message->nlmsg_len) - (char *)start);
}

bool mnl_attr_ok(const struct nlattr *attribute, int length) {
  return length >= header_length && attribute->nla_len >= sizeof(*attribute) &&
         (int)attribute->nla_len <= length;
}

uint16_t mnl_attr_get_type(const struct nlattr *attribute) { return attribute->nla_type & NLA_TYPE_MASK; }

uint16_t mnl_attr_get_payload_len(const struct nlattr *attribute) {
  return (uint16_t)(attribute->nla_len - header_length);
}
