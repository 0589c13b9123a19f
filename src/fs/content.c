#include "fs/content.h"
