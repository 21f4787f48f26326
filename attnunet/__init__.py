"""attnunet: experiments with Attention Residual U-Nets whose numbers can be believed."""

__version__ = "0.1.0"
