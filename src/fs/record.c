#include "fs/record.h"
