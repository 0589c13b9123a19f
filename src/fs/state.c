#include "fs/state.h"
