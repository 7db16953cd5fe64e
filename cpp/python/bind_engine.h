#pragma once
#include <pybind11/pybind11.h>

// Adds the class Engine to the module.
void bind_engine(pybind11::module_& m);
