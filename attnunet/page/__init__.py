"""The page of `attnunet-demo`: networks and images to choose from, pictures of a prediction, and the mask to download."""
