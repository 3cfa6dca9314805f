private import OVXDatapath
