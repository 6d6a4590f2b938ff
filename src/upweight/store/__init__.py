"""Results on disk: whole, checked when they are read, and never lost while another takes their place.

`marked_folder` keeps data under a marker that names them with their checksums; `attributions` says what a saved
attribution is. The truth is the marker: data that it doesn't name are nobody's, and the next save clears them.
"""
