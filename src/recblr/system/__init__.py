"""What this installation and this machine are: the build, the devices, the memory."""
