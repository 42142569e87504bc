# Compiled as it stands: a login runs through it.
