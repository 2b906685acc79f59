// What most unit tests include, as src/precompiled.h is for the sources. No test relies on it.
#pragma once

#include <criterion/criterion.h>

#include "../../src/precompiled.h"
