"""Shows: a shop of planted tastes comes in, the whole route goes by, numbers go out."""
