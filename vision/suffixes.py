"""File name suffixes of videos and images."""

VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf "
    ".ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m .264 .265 .apng .av1 .avif .dv .h264 .h265 "
    ".hevc .ivf .mjpeg .mjpg .nut .ps .wtv".split()
)
IMAGE_SUFFIXES = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())
