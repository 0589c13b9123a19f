#include "fs/names.h"
