// The compiler comes here only where libtorch's own header is not, and stops at the next line, which says what to do.
#include "libtorch is missing: run scripts/libtorch (or make setup), or set LIBTORCH to an installed libtorch 2.11"
