"""Stream files out of the scheme metadata of the Qeasy platform; `convert.convert` is the way in."""
