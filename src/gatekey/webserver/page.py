"""The page that a refused person sees: what happened, why no question came up, and whom to ask. Static; shows nothing of the site behind it."""

from __future__ import annotations

from .site import Site

NO_CERTIFICATE = "Your browser did not show a certificate."
WITHDRAWN = "The certificate that you showed has been withdrawn."
EXPIRED = "The certificate that you showed is past its date, or not valid yet."
STRANGER = "The certificate that you showed was not issued for this place."
NOT_FOR_YOU = "Your certificate is in order, but this page is not open to the groups that you belong to."
NOT_LET_IN = "The certificate that you showed is not let in here: it was withdrawn, or it was never issued for this place."
NOT_A_PROXY = "This web server is not one that may ask who may enter, so the door stays closed."
UNSURE = "Who may enter cannot be found out at this moment, so the door stays closed. Try again in a minute."
#: What the decision endpoint says in X-Gatekey-Why, as the sentence on the page.
SENTENCES = {
    "unknown": NOT_LET_IN, "revoked": WITHDRAWN, "left": WITHDRAWN, "expired": EXPIRED, "not-yet-valid": EXPIRED, "wrong-group": NOT_FOR_YOU, "stale": UNSURE,
    "not-a-proxy": NOT_A_PROXY, "no-certificate": NO_CERTIFICATE,
}  # fmt: skip
#: What a server says that cannot tell the cases apart.
ANY_REASON = "Your browser showed no certificate, or one that is not let in here."
#: By this the page is known again.
TITLE = "Not without your certificate"


def page(site: Site, reason: str) -> str:
    """HTML without single quotes, dollars, percent signs, braces and backslashes, so that it can stand in any server's configuration.

    `reason` is a sentence, or the server's own variable that holds one.
    """
    whom = f"Whom to ask: {site.contact}" if site.contact else "Whoever runs this site can give you a certificate, or tell you what became of yours."
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">\n'
        f"<title>{TITLE}</title></head>\n"
        '<body style="font-family: sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em; line-height: 1.5">\n'
        "<h1>This page is closed</h1>\n"
        f"<p><strong>{reason}</strong></p>\n"
        f"<p>{site.host} opens only for people who hold a certificate for it on the device that they use.</p>\n"
        "<h2>Why was I not asked?</h2>\n"
        "<p>A browser asks which certificate to show only when it has one that fits. It stays silent when</p>\n"
        "<ul>\n"
        "<li>the certificate is not installed on this device, or not for this browser (Firefox has a store of its own; on iPhones only Safari sees it),</li>\n"
        "<li>the certificate is past its date,</li>\n"
        "<li>you once pressed Cancel: the browser remembers that until all its windows are closed,</li>\n"
        "<li>this is a private window: not every browser shows a certificate there.</li>\n"
        "</ul>\n"
        f"<p>{whom}</p>\n"
        "</body></html>\n"
    )
