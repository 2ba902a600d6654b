"""QR codes as pictures that any page can show: without scripts, styles, and other hosts."""


def svg_of(text: str) -> str:
    """Return the QR code of a text as SVG, black on white also where the page is dark: cameras need the contrast."""
    import segno  # noqa: PLC0415  # 0.5 MB, for the few who set up codes

    return segno.make(text, error="m", micro=False).svg_inline(
        scale=4, border=4, dark="#000", light="#fff", omitsize=True
    )
