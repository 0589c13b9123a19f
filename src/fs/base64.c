#include "fs/base64.h"
